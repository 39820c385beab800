-- put: enter tasks under keys of their callers, or replace those that have these keys, by compare-and-set; attempts
-- start afresh. A task leaves its entry, so that the outcome of an attempt under way does not count. A paused one stays
-- paused, a dead one comes back to life.
-- KEYS   writer tasks due queue entries failures dead dead_bytes paused awaiting held counters types bell type_index...
-- ARGV   batch# expiry_s group waiting types...
-- each   key expected (the record as it was; '' for none) tail (the record less its due time) delay_ms (below 0:
--        due_after.lua) old_type_number may_revive# (0: a dead one stays) type_number
-- Returns '<now ms> ' and per task one code: N new, U replaced, D replaced while in delivery, X was dead and is
--        replaced, S is dead and stays, C changed meanwhile.
-- Bounds 200 tasks a call, some fifteen commands each.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   the first write grows: refused, nothing is written.
--- include clock due_after types bell writer foreign letters place
--- names

local answer = applied(writer, batch)
if answer then
  return answer
end
-- Without the group this fails here, before any write.
redis.call('XPENDING', queue, group, '-', '+', 1)
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge
local has_begun, entered, replayed = false, 0, 0

local function put_one(key, expected, tail, delay_ms, old_type_number, may_revive, type_number)
  local record = redis.call('HGET', tasks, key)
  if (record or '') ~= expected then
    return 'C'
  end
  -- A foreign key in their places holds nothing of ours.
  local is_dead = type(redis.pcall('ZSCORE', dead, key)) == 'string'
  if is_dead and may_revive == 0 then
    return 'S'
  end
  local is_awaiting = type(redis.pcall('ZSCORE', awaiting, key)) == 'string'
  local is_paused = type(redis.pcall('ZSCORE', paused, key)) == 'string'
  local id = redis.call('HGET', entries, key)
  local pending = id and pending_of(queue, group, id)
  -- Before the first write, and after the reads that a foreign key may refuse.
  if not has_begun then
    has_begun = true
    remember(writer, batch, '', expiry_s)
  end
  local due_ms = due_after(now, delay_ms)
  if id then
    leave_queue(queue, group, entries, key, id)
  end
  if is_dead then
    redis.call('ZREM', dead, key)
    drop_letter(dead_bytes, key)
  end
  if is_awaiting then
    redis.call('ZREM', awaiting, key)
  end
  redis.pcall('ZREM', held, key)
  remove_from_hash(failures, key)
  if is_paused then
    redis.call('ZADD', paused, due_ms, key)
  else
    redis.call('ZADD', due, due_ms, key)
    earliest_ms = math.min(earliest_ms, due_ms)
  end
  redis.call('HSET', tasks, key, string.format('{"due":%.0f', due_ms) .. tail)
  if old_type_number ~= '0' and old_type_number ~= type_number then
    remove_from_types(types, type_of, old_type_number, key)
  end
  if type_number ~= '0' then
    add_to_types(tasks, types, type_of, type_number, key, due_ms)
  end
  if not record then
    entered = entered + 1
    return 'N'
  end
  if is_dead then
    replayed = replayed + 1
    return 'X'
  end
  return (pending and pending[2] ~= waiting or is_awaiting) and 'D' or 'U'
end

local codes = {}
for at = first, #ARGV, width do
  --- row
  codes[#codes + 1] = put_one(key, expected, tail, delay_ms, old_type_number, may_revive, type_number)
end
if entered > 0 then
  add_to_counter(counters, 'scheduled', entered)
end
if replayed > 0 then
  add_to_counter(counters, 'replayed', replayed)
end
ring(bell, head_before_ms, earliest_ms)
answer = string.format('%.0f ', now) .. table.concat(codes)
remember(writer, batch, answer, expiry_s)
return answer
