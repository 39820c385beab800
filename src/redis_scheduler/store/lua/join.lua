-- join: tell which deployment this Redis belongs to: the id that it keeps; if it keeps none, it keeps the one offered.
-- And keep for a while on what the process listens, and tell on what all do; and that it lives, if it is a worker.
-- KEYS   instance listeners workers
-- ARGV   offered (an id: 32 hexadecimal digits) consumer (the worker's name; '' for none) kept_ms# (for which a worker
--        is remembered) workers_most# (to remember) ttl_ms# (of what follows) most# (to keep) address... (that it
--        listens on, as listeners has them)
-- Returns the id, and behind it what all processes listen on. What foreign hands put there is an error, and stays.
-- Bounds 16 addresses a call, and the 256 that are kept; one worker, and 300 that are forgotten.
-- Twice  what is kept is the answer; an address is kept a little longer, and a worker lives a moment later.
-- Full   UNLINK or ZREM of nothing is the first write: so a full Redis without an id takes one, too.
--- include clock drop instance
--- names
local now, kept = now_ms(math.floor), redis.call('GET', instance)
if kept and not is_id(kept) then
  return redis.error_reply('WRONGTYPE ' .. instance .. ' holds no id of a deployment')
end
-- A foreign key in its place fails here, before any write.
redis.call('ZCARD', listeners)
redis.call('ZCARD', workers)
if not kept then
  redis.call('UNLINK', instance)
  redis.call('SET', instance, offered)
end
if #ARGV - first >= 0 then
  redis.call('ZREM', listeners, '')
  for at = first, #ARGV do
    redis.call('ZADD', listeners, string.format('%.0f', now + ttl_ms), ARGV[at])
  end
  drop(listeners, redis.call('ZRANGEBYSCORE', listeners, '-inf', string.format('%.0f', now), 'LIMIT', 0, 100))
  drop_surplus(listeners, most)
end
if consumer ~= '' then
  redis.call('ZREM', workers, '')
  redis.call('ZADD', workers, string.format('%.0f', now), consumer)
  drop(workers, redis.call('ZRANGEBYSCORE', workers, '-inf', string.format('%.0f', now - kept_ms), 'LIMIT', 0, 100))
  -- A clock that was set back must not keep a worker that is gone.
  drop(workers, redis.call('ZRANGEBYSCORE', workers, string.format('%.0f', now + kept_ms), '+inf', 'LIMIT', 0, 100))
  drop_surplus(workers, workers_most)
end
local all = redis.call('ZRANGEBYSCORE', listeners, string.format('(%.0f', now), '+inf', 'LIMIT', 0, most)
return {kept or offered, unpack(all)}
