-- The index of a type other than the default: a ZSET by due time, and the type's name in the set of names while it has
-- tasks. Only lists by type need it: if a foreign key has its name, the task goes on without.
local function add_to_type(types, index, name, key, due_ms)
  redis.pcall('ZADD', index, due_ms, key)
  redis.pcall('SADD', types, name)
end

local function remove_from_type(types, index, name, key)
  redis.pcall('ZREM', index, key)
  if redis.pcall('EXISTS', index) == 0 then
    redis.pcall('SREM', types, name)
  end
end
