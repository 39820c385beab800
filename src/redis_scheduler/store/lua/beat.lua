-- beat: say that a worker lives.
-- KEYS   workers
-- ARGV   consumer kept_ms# (for which it is remembered) most# (workers to remember)
-- Returns 1.
-- Bounds one member; what is forgotten was added here.
-- Twice  it is said a moment later.
-- Full   ZREM of nothing is the first write.
--- include clock
--- names
local now = now_ms(math.floor)
redis.call('ZREM', workers, '')
redis.call('ZADD', workers, string.format('%.0f', now), consumer)
redis.call('ZREMRANGEBYSCORE', workers, '-inf', string.format('%.0f', now - kept_ms))
-- A clock that was set back must not keep a worker that is gone.
redis.call('ZREMRANGEBYSCORE', workers, string.format('%.0f', now + kept_ms), '+inf')
redis.call('ZREMRANGEBYRANK', workers, 0, -most - 1)
return 1
