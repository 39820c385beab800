-- beat: say that a worker lives.
-- KEYS   workers
-- ARGV   consumer kept_ms# (for which it is remembered) most# (workers to remember)
-- Returns 1.
-- Bounds one member; what is forgotten was added here.
-- Twice  it is said a moment later.
-- Full   ZREM of nothing is the first write.
--- include clock drop
--- names
local now = now_ms(math.floor)
redis.call('ZREM', workers, '')
redis.call('ZADD', workers, string.format('%.0f', now), consumer)
drop(workers, redis.call('ZRANGEBYSCORE', workers, '-inf', string.format('%.0f', now - kept_ms), 'LIMIT', 0, 100))
-- A clock that was set back must not keep a worker that is gone.
drop(workers, redis.call('ZRANGEBYSCORE', workers, string.format('%.0f', now + kept_ms), '+inf', 'LIMIT', 0, 100))
drop_surplus(workers, most)
return 1
