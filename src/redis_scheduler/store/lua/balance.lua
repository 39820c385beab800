-- balance: close the ledger: tasks that entered and are nowhere to be found, neither running nor ended, are counted as
-- lost; tasks found again are taken off that number, which may fall below zero. Call it after an audit that left no
-- fault.
-- KEYS   due queue paused awaiting held counters
-- ARGV   (rows only)
-- each   sign (1: a counter of what entered; -1: of what ended) name (of the counter)
-- Returns how many were counted: 0 if the ledger was balanced.
-- Bounds a look-up a counter of the ledger, and two.
-- Twice  the second time the ledger is balanced.
-- Full   the only write grows: refused.
--- names

local missing = -redis.call('ZCARD', due) - redis.call('XLEN', queue) - redis.call('ZCARD', paused)
  - redis.call('ZCARD', awaiting) - redis.call('ZCARD', held)
for at = first, #ARGV, width do
  --- row
  missing = missing + sign * (redis.call('HGET', counters, name) or 0)
end
if missing ~= 0 then
  redis.call('HINCRBY', counters, 'lost', missing)
end
return missing
