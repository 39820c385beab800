-- ledger: count every task where it stands, at one moment. Reads only.
-- KEYS   due queue dead paused awaiting held counters pause_all
-- ARGV   group waiting
-- Returns {due, in the queue, pending, waiting, dead, paused, awaiting, held, {counter, value, …}, since when nothing
--        is promoted or false, for how many ms the first task has been due that no worker has claimed}.
-- Bounds a row a consumer, of which those that are gone are retired, the ten counters, and two heads.
--- include clock
--- names

local summary, waiting_count = redis.call('XPENDING', queue, group), 0
for _, row in ipairs(summary[4] or {}) do
  if row[1] == waiting then
    waiting_count = tonumber(row[2])
  end
end
-- A claimed entry is gone once its outcome is written: so the first that was never claimed is behind the last that is
-- pending. Its id tells when it was promoted.
local head, never_claimed = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES'),
  redis.call('XRANGE', queue, summary[3] and '(' .. summary[3] or '-', '+', 'COUNT', 1)[1]
local now = now_ms(math.floor)
local oldest = math.min(tonumber(head[2]) or now, never_claimed and tonumber(never_claimed[1]:match('^%d+')) or now)
return {
  redis.call('ZCARD', due), redis.call('XLEN', queue), summary[1], waiting_count, redis.call('ZCARD', dead),
  redis.call('ZCARD', paused), redis.call('ZCARD', awaiting), redis.call('ZCARD', held),
  redis.call('HGETALL', counters), redis.call('GET', pause_all),
  math.max(0, math.min(now - oldest, 1e15)),
}
