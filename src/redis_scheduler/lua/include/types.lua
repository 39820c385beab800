-- The index of a type other than the default: a ZSET by due time, and the type's name in the set of names while it has tasks.
local function add_to_type(types, index, name, key, due_ms)
  redis.call('ZADD', index, due_ms, key)
  redis.call('SADD', types, name)
end

local function remove_from_type(types, index, name, key)
  redis.call('ZREM', index, key)
  if redis.call('EXISTS', index) == 0 then
    redis.call('SREM', types, name)
  end
end
