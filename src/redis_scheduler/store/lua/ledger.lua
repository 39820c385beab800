-- ledger: count every task where it stands, at one moment. Reads only.
-- KEYS   due queue dead paused awaiting held tasks failures counters pause_all breakers
-- ARGV   group waiting
-- Returns {due, in the queue, pending, waiting, dead, paused, awaiting, held, breakers that are open, that close,
--        {counter, value, …}, since when nothing is promoted or false, for how many ms the first task has been due that
--        no worker has claimed, now, when the first of `due` is or false}.
-- Bounds a row a consumer, of which those that are gone are retired, the counters, two heads, those of 16 lines of
--        tokens, and a row a host that failed lately, 10,000 at most.
--- include clock turns oldest
--- names

local summary, waiting_count = redis.call('XPENDING', queue, group), 0
for _, row in ipairs(summary[4] or {}) do
  if row[1] == waiting then
    waiting_count = tonumber(row[2])
  end
end
local now, breaker_counts, hosts = now_ms(math.floor), {o = 0, r = 0}, redis.call('HGETALL', breakers)
for at = 2, #hosts, 2 do
  local state = string.match(hosts[at], '^([or]) %d+ %d+ %d+ %d+$')
  if state then
    breaker_counts[state] = breaker_counts[state] + 1
  end
end
local late, next_due = oldest_due(due, queue, held, tasks, failures, summary[3], now)
return {
  redis.call('ZCARD', due), redis.call('XLEN', queue), summary[1], waiting_count, redis.call('ZCARD', dead),
  redis.call('ZCARD', paused), redis.call('ZCARD', awaiting), redis.call('ZCARD', held),
  breaker_counts.o, breaker_counts.r, redis.call('HGETALL', counters), redis.call('GET', pause_all),
  late, now, next_due or false,
}
