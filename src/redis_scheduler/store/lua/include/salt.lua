-- What only this deployment knows, made once: so that no client can tell which names have lines in common. It may
-- write, but not as the first: a full Redis would refuse it.
local function salt_of(sweep, offered)
  local salt = redis.call('HGET', sweep, 'salt')
  if not salt then
    redis.call('HSET', sweep, 'salt', offered)
  end
  return salt or offered
end
