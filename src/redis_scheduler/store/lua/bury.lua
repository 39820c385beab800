-- bury: give a task up; its record and last failure stay among the dead letters.
-- KEYS   queue entries failures counters dead types tasks due bell dead_bytes type_index...
-- ARGV   group consumer then_count# types...
-- each   id (of the entry) key attempts# (seen at the claim) newly_failed (1 if an attempt failed just now; 0: none
--        was made) failure (JSON; '' keeps the one before) type_number
-- then   item# (number of the row that it follows, from 1) key delay_ms tail (the record less its due time)
--        type_number
-- Returns per task 1 buried, 0 fenced. What follows it is scheduled if it was buried, and only then.
-- Bounds 200 tasks a call, some ten commands each, and as many follow-ups: their records come with the call.
-- Twice  the entry is gone: 0.
-- Full   where it refuses ZADD, XDEL of nothing is the first write; follow-ups come behind it.
--- include clock fence types foreign letters
--- names
local now = now_ms(math.floor)

local answer, died, failed, has_ended = {}, 0, 0, {}
-- A foreign key in their places is refused here, before anything is written.
redis.call('HLEN', tasks)
if then_count > 0 then
  redis.call('ZCARD', due)
end
for at = first, last, width do
  --- row
  if holds(queue, entries, failures, group, consumer, id, key, attempts) then
    -- Before what is taken out, since a foreign key may refuse it.
    local placed = write_growing(queue, 'ZADD', dead, now, key)
    if type(placed) == 'table' then
      return placed
    end
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
    redis.call('HDEL', entries, key)
    if failure ~= '' then
      redis.call('HSET', failures, key, (attempts + newly_failed) .. ' ' .. failure)
    end
    keep_letter(dead_bytes, tasks, failures, key)
    if type_number ~= '0' then
      remove_from_types(types, type_of, type_number, key)
    end
    died = died + 1
    failed = failed + newly_failed
    answer[#answer + 1] = 1
    has_ended[#answer] = true
  else
    answer[#answer + 1] = 0
  end
end
if died > 0 then
  add_to_counter(counters, 'died', died)
  if failed > 0 then
    add_to_counter(counters, 'failed', failed)
  end
end
if then_count > 0 then
--- include due_after bell follow_ups
end
return answer
