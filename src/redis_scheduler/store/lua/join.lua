-- join: tell which deployment this Redis belongs to: by the id that it keeps, else by the one offered, which it keeps then.
-- KEYS   instance
-- ARGV   offered (an id: 32 hexadecimal digits)
-- Returns the id. What foreign hands put there is an error, and stays.
-- Bounds one key.
-- Twice  what is kept is the answer.
-- Full   UNLINK, of nothing, is the first write: also a Redis that was full before it had an id takes one.
--- include instance
--- names

local kept = redis.call('GET', instance)
if kept then
  return is_id(kept) and kept or redis.error_reply('WRONGTYPE ' .. instance .. ' holds no id of a deployment')
end
redis.call('UNLINK', instance)
redis.call('SET', instance, offered)
return offered
