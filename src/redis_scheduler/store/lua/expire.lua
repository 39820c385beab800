-- expire: forget tasks whose next attempt would come so late that it is pointless, and keep a summary of each for a
-- while. The caller has compared the time at which they expire with Redis' clock.
-- KEYS   queue entries tasks failures counters types due bell results segment... type_index...
-- ARGV   group consumer result_ttl_ms# result_bytes# (of all summaries) then_count# types...
-- each   id (of the entry) key attempts# (seen at the claim) newly_failed (1 if an attempt failed just now; 0: none
--        was made) result (the summary less when the task ended; '' keeps none) type_number
-- then   item# (number of the row that it follows, from 1) key delay_ms tail (the record less its due time)
--        type_number
-- Returns per task 1 expired, 0 fenced. What follows it is scheduled if it expired, and only then.
-- Bounds 200 tasks a call, some six commands each, four for the summaries, and as many follow-ups: their records come
--        with the call.
-- Twice  the entry is gone: 0, and nothing is kept again.
-- Full   XACK is the first write, or XDEL of nothing where anything follows.
--- include clock fence types foreign results
--- names

local answer, ids, keys, typed, kept, is_met, has_ended, failed = {}, {}, {}, {}, {}, {}, {}, 0
local ended_ms = now_ms(math.floor)
for at = first, last, width do
  --- row
  if not is_met[key] and holds(queue, entries, failures, group, consumer, id, key, attempts) then
    answer[#answer + 1] = 1
    is_met[key], has_ended[#answer] = true, true
    ids[#ids + 1] = id
    keys[#keys + 1] = key
    failed = failed + newly_failed
    add_result(kept, key, result, ended_ms)
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
--- include due_after bell follow_ups
end
--- include forget
add_to_counter(counters, 'expired', forgotten)
if failed > 0 then
  add_to_counter(counters, 'failed', failed)
end
keep_results(kept, results, segment_of, counters, ended_ms, result_ttl_ms, result_bytes)
return answer
