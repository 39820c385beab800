-- purge: delete every task, and only this service's own keys: a foreign key in the place of an index stays. The
-- counters stay, too, and the group is made anew. More indexes of types and labels than those named stay as well, of
-- tasks that are gone: `remains` says so until clean.lua has taken these out.
-- KEYS   writer tasks due queue entries failures dead dead_bytes paused idempotency idempotency_ends
--        awaiting held lines counters types sweep results remains segment... type_index...
-- ARGV   batch# expiry_s group types... (some of those there are)
-- Returns '<tasks deleted> <types left>'.
-- Bounds UNLINK frees in the background: the time does not grow with the number of tasks; some 2 us for each type.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   UNLINK is the first write.
--- include writer foreign ours types
--- names

local answer = applied(writer, batch)
if answer then
  return answer
end
local deleted = redis.call('HLEN', tasks)
-- A foreign key in one of their places fails here, and is not deleted.
refuse_foreign({entries, failures, dead_bytes, idempotency, sweep, results, lines},
  {due, paused, idempotency_ends, awaiting, held})
redis.call('XLEN', queue)
redis.call('SCARD', types)
redis.call('GET', remains)
-- The dead were counted when they died.
local purged = deleted - redis.call('ZCARD', dead)
redis.call('UNLINK', tasks, due, queue, entries, failures, dead, dead_bytes, paused, idempotency,
  idempotency_ends, awaiting, held, lines, sweep, results, remains)
for number = 0, 15 do
  -- A foreign key in the place of a segment stays.
  if type(redis.pcall('HLEN', segment_of(number))) == 'number' then
    redis.call('UNLINK', segment_of(number))
  end
end
redis.call('XGROUP', 'CREATE', queue, group, '0', 'MKSTREAM')
add_to_counter(counters, 'purged', purged)
for number = 1, type_count do
  local index, name = type_of(number)
  -- A foreign key in the place of an index stays.
  if is_ours(index, name) then
    redis.call('UNLINK', index)
  end
  redis.call('SREM', types, name)
end
local left = redis.call('SCARD', types)
if left > 0 then
  redis.call('SET', remains, string.format('%s %.0f', writer, batch))
end
answer = string.format('%d %d', deleted, left)
remember(writer, batch, answer, expiry_s)
return answer
