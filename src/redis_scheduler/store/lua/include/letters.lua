-- The bytes of the dead letters: `dead_bytes` has those of each, and in `.bytes` their sum, so that no look at records
-- is needed to keep DEAD_BYTES. What is missing here, or wrong, the trim finds and counts anew: so a foreign key that
-- comes into its place, which only a start refuses (check.lua), stops no task.
local LETTER_BYTES = 400  -- what Redis takes for one besides its record and failure

local function drop_letter(dead_bytes, key)
  local size = redis.pcall('HGET', dead_bytes, key)
  if type(size) == 'string' then
    redis.pcall('HDEL', dead_bytes, key)
    redis.pcall('HINCRBY', dead_bytes, '.bytes', string.format('%.0f', -number_of(size)))
  end
end

local function keep_letter(dead_bytes, tasks, failures, key)
  drop_letter(dead_bytes, key)
  local size = LETTER_BYTES
  for _, hash in ipairs({tasks, failures}) do
    local length = redis.pcall('HSTRLEN', hash, key)
    size = size + (type(length) == 'number' and length or 0)
  end
  if type(redis.pcall('HSET', dead_bytes, key, size)) == 'number' then
    redis.pcall('HINCRBY', dead_bytes, '.bytes', size)
  end
end
