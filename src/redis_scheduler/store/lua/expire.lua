-- expire: forget tasks whose next attempt would come so late that it is pointless. The caller has compared the time at
-- which they expire with Redis' clock.
-- KEYS   queue entries tasks failures counters types due bell type_index...
-- ARGV   group consumer then_count# types...
-- each   id (of the entry) key attempts# (seen at the claim) newly_failed (1 if an attempt failed just now; 0: none
--        was made) type_number
-- then   item# (number of the row that it follows, from 1) key delay_ms tail (the record less its due time)
--        type_number
-- Returns per task 1 expired, 0 fenced. What follows it is scheduled if it expired, and only then.
-- Bounds 200 tasks a call, some six commands each, and as many follow-ups: their records come with the call.
-- Twice  the entry is gone: 0.
-- Full   XACK is the first write, or XDEL of nothing where anything follows.
--- include fence types foreign
--- names

local answer, ids, keys, typed, is_met, has_ended, failed = {}, {}, {}, {}, {}, {}, 0
for at = first, last, width do
  --- row
  if not is_met[key] and holds(queue, entries, failures, group, consumer, id, key, attempts) then
    answer[#answer + 1] = 1
    is_met[key], has_ended[#answer] = true, true
    ids[#ids + 1] = id
    keys[#keys + 1] = key
    failed = failed + newly_failed
    if type_number ~= '0' then
      typed[#typed + 1] = at
    end
  else
    answer[#answer + 1] = 0
  end
end
if #ids == 0 then
  return answer
end

if then_count > 0 then
--- include clock due_after bell follow_ups
end
--- include forget
add_to_counter(counters, 'expired', forgotten)
if failed > 0 then
  add_to_counter(counters, 'failed', failed)
end
return answer
