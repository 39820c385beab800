-- ledger: count every task where it stands, at one moment. Reads only.
-- KEYS   due queue dead paused awaiting held counters pause_all
-- ARGV   group waiting
-- Returns {due, in the queue, pending, waiting, dead, paused, awaiting, held, {counter, value, …}, since when nothing
--        is promoted or false}.
-- Bounds a row a consumer, of which those that are gone are retired, and the ten counters.
--- names

local summary, waiting_count = redis.call('XPENDING', queue, group), 0
for _, row in ipairs(summary[4] or {}) do
  if row[1] == waiting then
    waiting_count = tonumber(row[2])
  end
end
return {
  redis.call('ZCARD', due), redis.call('XLEN', queue), summary[1], waiting_count, redis.call('ZCARD', dead),
  redis.call('ZCARD', paused), redis.call('ZCARD', awaiting), redis.call('ZCARD', held),
  redis.call('HGETALL', counters), redis.call('GET', pause_all),
}
