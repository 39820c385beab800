-- purge: delete every task, and only this service's own keys: a foreign key in the place of an index stays. The
-- counters stay, too, and the group is made anew. Tasks that are scheduled after the first call stay: further calls
-- only take tasks that are gone out of the indexes of types and labels.
-- KEYS   writer tasks due queue entries failures dead dead_bytes paused idempotency idempotency_ends
--        awaiting held lines counters types sweep results segment... type_index...
-- ARGV   batch# expiry_s group is_first# (1: delete the tasks) cursor (of a ZSCAN of the first index; '0': from
--        its beginning) most# (members of indexes to look at) types... (whose indexes are to be cleaned)
-- Returns '<tasks deleted> <types left> <types cleaned> <cursor>': how many of those named were cleaned, in their
--        order, and where the next one goes on.
-- Bounds UNLINK frees in the background: the time does not grow with the number of tasks. A further call looks at some
--        1,000 members, at a microsecond or two each.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   UNLINK, or SREM of nothing, is the first write.
--- include writer foreign
--- names

local answer = applied(writer, batch)
if answer then
  return answer
end
local deleted, purged = 0, 0
if is_first == 1 then
  deleted = redis.call('HLEN', tasks)
  -- A foreign key in one of their places fails here, and is not deleted.
  for _, hash in ipairs({entries, failures, dead_bytes, idempotency, sweep, results}) do
    redis.call('HLEN', hash)
  end
  redis.call('ZCARD', due)
  redis.call('ZCARD', paused)
  redis.call('ZCARD', idempotency_ends)
  redis.call('ZCARD', awaiting)
  redis.call('ZCARD', held)
  redis.call('HLEN', lines)
  redis.call('XLEN', queue)
  redis.call('SCARD', types)
  -- The dead were counted when they died.
  purged = deleted - redis.call('ZCARD', dead)
  redis.call('UNLINK', tasks, due, queue, entries, failures, dead, dead_bytes, paused, idempotency,
    idempotency_ends, awaiting, held, lines, sweep, results)
  for number = 0, 15 do
    -- A foreign key in the place of a segment stays.
    if type(redis.pcall('HLEN', segment_of(number))) == 'number' then
      redis.call('UNLINK', segment_of(number))
    end
  end
  redis.call('XGROUP', 'CREATE', queue, group, '0', 'MKSTREAM')
  add_to_counter(counters, 'purged', purged)
else
  -- A foreign key in the place of the tasks fails here; SREM removes nothing, and is the first write.
  redis.call('HLEN', tasks)
  redis.call('SREM', types, '')
end

-- Takes those members out of an index that are no tasks; returns where the next call goes on.
local function clean(index, from)
  local page = redis.pcall('ZSCAN', index, from, 'COUNT', most)
  if page.err then
    return '0'
  end
  local gone = {}
  for at = 1, #page[2], 2 do
    if redis.call('HEXISTS', tasks, page[2][at]) == 0 then
      gone[#gone + 1] = page[2][at]
    end
  end
  most = most - #page[2] / 2
  if #gone > 0 then
    redis.call('ZREM', index, unpack(gone))
  end
  return page[1]
end

local cleaned, is_empty = 0, redis.call('EXISTS', tasks) == 0
for number = 1, type_count do
  local index, name = type_of(number)
  if is_empty then
    cursor = '0'
    if type(redis.pcall('ZCARD', index)) == 'number' then
      redis.call('UNLINK', index)
    end
  elseif most > 0 then
    cursor = clean(index, cursor)
  else
    break
  end
  if cursor ~= '0' then
    break
  end
  if type(redis.pcall('ZCARD', index)) ~= 'number' or redis.call('EXISTS', index) == 0 then
    redis.call('SREM', types, name)
  end
  cleaned = number
end
answer = string.format('%d %d %d %s', deleted, redis.call('SCARD', types), cleaned, cursor)
remember(writer, batch, answer, expiry_s)
return answer
