-- finish: settle, and keep a summary of each task for a while (see settle).
-- KEYS   queue entries tasks failures counters types due bell results segment... type_index...
-- ARGV   group result_ttl_ms# result_bytes# (of all summaries) then_count# types...
-- each   id (of the entry) key result (the summary less when the task ended; '' keeps none) type_number
-- then   item# (number of the row that it follows, from 1) key delay_ms (below 0: due_after.lua) tail (the record less
--        its due time) type_number
-- Returns per task 1 settled, 0 fenced, as settle does.
-- Bounds those of settle, and four commands.
-- Twice  the second time the entry is gone: 0, and nothing is kept again.
-- Full   as settle: what is kept comes behind its writes.
--- include clock types foreign results
--- names
--- include settled
local kept, now = {}, now_ms(math.floor)
for number = 1, #answer do
  if answer[number] == 1 then
    local at = first + (number - 1) * width
    --- row key result
    add_result(kept, key, result, now)
  end
end
keep_results(kept, results, segment_of, counters, now, result_ttl_ms, result_bytes)
return answer
