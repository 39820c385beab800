-- again: tasks were delivered whose receivers want them again: each is due once more after its delay, and its attempts
-- start afresh. The fence is that of a success: the task is still in this entry.
-- KEYS   queue entries tasks failures counters types due bell type_index...
-- ARGV   group types...
-- each   id (of the entry) key delay_ms times (how often it came again with this) type_number
-- Returns per task 1 due again, 0 fenced.
-- Bounds 200 tasks a call, some ten commands each, of which two take a record: give about a MiB of them at most.
-- Twice  the second time the entry is gone: 0, nothing is counted again.
-- Full   XACK is the first write.
--- include clock types bell foreign
--- names
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge

-- Where the rest of a record begins, behind the numbers that scripts put in front.
local function rest_of(record)
  local _, last = string.find(record, '^{"due":%d+,"again":%d+')
  if not last then
    _, last = string.find(record, '^{"due":%d+')
  end
  return last and string.sub(record, last + 1)
end

local answer, delivered = {}, 0
for at = first, #ARGV, width do
  --- row
  local record = redis.call('HGET', entries, key) == id and redis.call('HGET', tasks, key)
  local rest = record and rest_of(record)
  if rest then
    local due_ms = now + delay_ms
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
    redis.call('HDEL', entries, key)
    redis.call('ZADD', due, due_ms, key)
    redis.call('HSET', tasks, key, string.format('{"due":%.0f,"again":%s', due_ms, times) .. rest)
    remove_from_hash(failures, key)
    if type_number ~= '0' then
      add_to_types(tasks, types, type_of, type_number, key, due_ms)
    end
    earliest_ms = math.min(earliest_ms, due_ms)
    delivered = delivered + 1
    answer[#answer + 1] = 1
  else
    answer[#answer + 1] = 0
  end
end
if delivered > 0 then
  add_to_counter(counters, 'delivered', delivered)
  add_to_counter(counters, 'scheduled', delivered)
  ring(bell, head_before_ms, earliest_ms)
end
return answer
