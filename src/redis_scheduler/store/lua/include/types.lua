-- The indexes of types and labels: each a ZSET by due time, and its name in the set of names while it has tasks. Only
-- lists by type or label need them: if a foreign key has the name of one, the task goes on without. `numbers` are those
-- of a row; a task has five at most, each of which takes two or three commands.
local function add_to_types(types, type_of, numbers, key, due_ms)
  for number in string.gmatch(numbers, '[1-9]%d*') do
    local index, name = type_of(number)
    redis.pcall('ZADD', index, due_ms, key)
    redis.pcall('SADD', types, name)
  end
end

local function remove_from_types(types, type_of, numbers, key)
  for number in string.gmatch(numbers, '[1-9]%d*') do
    local index, name = type_of(number)
    redis.pcall('ZREM', index, key)
    if redis.pcall('EXISTS', index) == 0 then
      redis.pcall('SREM', types, name)
    end
  end
end
