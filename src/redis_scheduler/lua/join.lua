-- join: tell which deployment this Redis belongs to: by the id that it keeps, else by the one offered, which it keeps then.
-- KEYS   instance
-- ARGV   the id offered: 32 hexadecimal digits
-- Returns the id.
-- Bounds one key.
-- Twice  what is kept is the answer.
-- Full   UNLINK is the first write: also a Redis that was full before it had an id takes one.
local instance, offered = KEYS[1], ARGV[1]

-- What foreign hands put there (of another type: an error) must not come into a header.
local kept = redis.pcall('GET', instance)
if type(kept) == 'string' and #kept == 32 and not kept:find('[^0-9a-f]') then
  return kept
end
redis.call('UNLINK', instance)
redis.call('SET', instance, offered)
return offered
