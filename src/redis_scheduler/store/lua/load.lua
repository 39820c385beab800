-- load: lease entries that were claimed, and read the tasks of the first of them, as many as there is room for, at
-- least one.
-- KEYS   queue entries tasks failures counters
-- ARGV   group consumer idle_ms (that the lease starts at) lowest highest (of the ids) room# (bytes of records
--        and failures)
--        ids... (of entries, at most a few hundred) task_keys... (in the same order)
-- Returns now ms; and per entry that was read: record, failure or false; false, false where the entry is not this
--        consumer's any more, or not the task's: cancelled, updated or taken over since; false, 1 where the task has no
--        record. An entry that is this consumer's and no task's is taken out. So is one whose task has no record, which
--        is counted as lost: nothing could end it here, and each recovery would list it again.
-- Bounds 200 entries, the room and one record; a look at 10,000 pending ones.
-- Twice  the lease starts again.
-- Full   XCLAIM is the first write.
--- include clock lease renewal foreign
--- names
local count = (#ARGV - first + 1) / 2
local ids, task_keys = {unpack(ARGV, first, first + count - 1)}, {unpack(ARGV, first + count)}

local held, is_held = held_of(queue, group, consumer, lowest, highest, ids), {}
for _, id in ipairs(held) do
  is_held[id] = true
end
local current = redis.call('HMGET', entries, unpack(task_keys))
local failed = redis.call('HMGET', failures, unpack(task_keys))

local answer, astray, lost = {now_ms(math.floor)}, {}, {}
for i, id in ipairs(ids) do
  local is_loaded = is_held[id] ~= nil and current[i] == id
  local record = is_loaded and redis.call('HGET', tasks, task_keys[i])
  room = room - (record and #record + (failed[i] and #failed[i] or 0) or 0)
  if room < 0 and i > 1 then
    break
  end
  local is_lost = is_loaded and not record
  answer[#answer + 1] = record
  answer[#answer + 1] = record and failed[i] or is_lost and 1
  if is_held[id] and not record then
    astray[#astray + 1] = id
  end
  if is_lost then
    lost[#lost + 1] = task_keys[i]
  end
end

-- From here on nothing is read.
if #held > 0 then
  lease(queue, group, consumer, idle_ms, held)
end
if #astray > 0 then
  -- Foreign hands put it there, or took its record away: pending here it would be listed again and again.
  redis.call('XACK', queue, group, unpack(astray))
  redis.call('XDEL', queue, unpack(astray))
end
if #lost > 0 then
  redis.call('HDEL', entries, unpack(lost))
  redis.call('HDEL', failures, unpack(lost))
  add_to_counter(counters, 'lost', #lost)
end
return answer
