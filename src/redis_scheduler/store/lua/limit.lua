-- limit: keep a limit that is set, or forget it. Workers notice it at their next sweep.
-- KEYS   limits sweep
-- ARGV   limit said ('' forgets it) most# (limits that may be kept)
-- Returns 1 done, 0 there was nothing to forget, 2 as many are kept as may be: nothing was done.
-- Bounds six commands.
-- Twice  the same is kept again; a resend finds nothing to forget.
-- Full   what is kept is the first write and grows: refused, nothing is written. A removal is not refused.
--- include clock
--- names
-- A foreign key in its place fails here, before any write.
redis.call('HLEN', sweep)
local answer = 1
if said == '' then
  answer = redis.call('HDEL', limits, limit)
elseif redis.call('HEXISTS', limits, limit) == 0 and redis.call('HLEN', limits) >= most then
  return 2
else
  redis.call('HSET', limits, limit, said)
end
redis.call('HDEL', sweep, 'round_ms')
redis.call('HSET', sweep, 'limits', string.format('%.0f', now_us()))
return answer
