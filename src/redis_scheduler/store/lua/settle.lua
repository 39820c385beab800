-- settle: forget delivered tasks, at most a few hundred a call. A success is a success, whoever owns the entry by now:
-- the fence is only that the task is still in this entry.
-- KEYS   queue entries tasks failures counters types due bell type_index...
-- ARGV   group then_count# types...
-- each   id (of the entry) key type_number
-- then   item# (number of the row that it follows, from 1) key delay_ms tail (the record less its due time)
--        type_number
-- Returns per task 1 settled, 0 fenced: cancelled, updated, deferred or settled before. What follows it is scheduled
--        if it was settled, and only then.
-- Bounds 200 tasks a call, some four commands each, and as many follow-ups: their records come with the call.
-- Twice  the second time the entry is gone: 0, nothing is counted or scheduled again.
-- Full   XACK is the first write, or XDEL of nothing where anything follows.
--- include types foreign
--- names

--- include settled
return answer
