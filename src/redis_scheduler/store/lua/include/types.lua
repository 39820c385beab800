-- The indexes of types, labels, series and tokens, and their names in a set of names while they have tasks. That of a
-- type, a label or all series is a ZSET by due time, and only lists by it need it. That of a token, whose name begins
-- with a line feed, is a HASH with the bytes of each task's record, and in `.bytes` their sum: what the token has
-- waiting. If a foreign key has the name of one, the task goes on without. `numbers` are those of a row; a task has
-- seven at most, each of which takes two to five commands.
local function is_token(name)
  return string.byte(name) == 10
end

local function bytes_of(size)
  return type(size) == 'string' and #size <= 15 and tonumber(size) or 0
end

-- To be called behind the write of the record.
local function keep_owned(tasks, owned, key)
  local before, size = redis.pcall('HGET', owned, key), redis.pcall('HSTRLEN', tasks, key)
  if type(redis.pcall('HSET', owned, key, size)) == 'number' then
    redis.pcall('HINCRBY', owned, '.bytes', string.format('%.0f', size - bytes_of(before)))
  end
end

local function has_sum_alone(owned)
  return redis.pcall('HLEN', owned) == 1 and redis.pcall('HEXISTS', owned, '.bytes') == 1
end

local function drop_owned(owned, key)
  local before = redis.pcall('HGET', owned, key)
  if type(before) == 'string' then
    redis.pcall('HDEL', owned, key)
    redis.pcall('HINCRBY', owned, '.bytes', string.format('%.0f', -bytes_of(before)))
  end
  if has_sum_alone(owned) then
    redis.pcall('UNLINK', owned)
  end
end

local function add_to_types(tasks, types, type_of, numbers, key, due_ms)
  for number in string.gmatch(numbers, '[1-9]%d*') do
    local index, name = type_of(number)
    if is_token(name) then
      keep_owned(tasks, index, key)
    else
      redis.pcall('ZADD', index, due_ms, key)
    end
    redis.pcall('SADD', types, name)
  end
end

local function remove_from_types(types, type_of, numbers, key)
  for number in string.gmatch(numbers, '[1-9]%d*') do
    local index, name = type_of(number)
    if is_token(name) then
      drop_owned(index, key)
    else
      redis.pcall('ZREM', index, key)
    end
    if redis.pcall('EXISTS', index) == 0 then
      redis.pcall('SREM', types, name)
    end
  end
end

-- Counts the bytes of a record that was written anew, if they are counted.
local function recount(tasks, type_of, numbers, key)
  for number in string.gmatch(numbers, '[1-9]%d*') do
    local index, name = type_of(number)
    if is_token(name) and redis.pcall('HEXISTS', index, key) == 1 then
      keep_owned(tasks, index, key)
    end
  end
end

local function is_empty(index, name)
  return redis.pcall('EXISTS', index) == 0 or is_token(name) and has_sum_alone(index)
end

-- Whether no foreign key stands in the place of an index.
local function is_ours(index, name)
  return type(redis.pcall(is_token(name) and 'HLEN' or 'ZCARD', index)) == 'number'
end
