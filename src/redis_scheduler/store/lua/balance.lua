-- balance: close the ledger: what entered and is nowhere to be found, neither waiting nor ended, is counted as lost; what
-- was found again is taken off that number, which may fall below zero. Wants an audit that left no fault.
-- KEYS   due, queue, counters
-- ARGV   per counter of the ledger: 1 if it counts what entered, -1 if what ended; its name
-- Returns how many were counted: 0 if the ledger was balanced.
-- Bounds a look-up a counter of the ledger, and two.
-- Twice  the second time the ledger is balanced.
-- Full   the only write grows: refused.
local due, queue, counters = unpack(KEYS)

local missing = -redis.call('ZCARD', due) - redis.call('XLEN', queue)
for i = 1, #ARGV, 2 do
  missing = missing + ARGV[i] * (redis.call('HGET', counters, ARGV[i + 1]) or 0)
end
if missing ~= 0 then
  redis.call('HINCRBY', counters, 'lost', missing)
end
return missing
