-- join: tell which deployment this Redis belongs to: the id that it keeps; if it keeps none, it keeps the one offered.
-- KEYS   instance
-- ARGV   offered (an id: 32 hexadecimal digits)
-- Returns the id. What foreign hands put there is an error, and stays.
-- Bounds one key.
-- Twice  what is kept is the answer.
-- Full   UNLINK of nothing is the first write: so a full Redis without an id takes one, too.
--- include instance
--- names

local kept = redis.call('GET', instance)
if kept then
  return is_id(kept) and kept or redis.error_reply('WRONGTYPE ' .. instance .. ' holds no id of a deployment')
end
redis.call('UNLINK', instance)
redis.call('SET', instance, offered)
return offered
