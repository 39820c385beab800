-- trim: drop the oldest dead letters: those that died longer ago than `ttl_ms`, and as many as are needed to keep the
-- others within `most_bytes`. It also counts the bytes of letters that nobody has counted: those of an older version.
-- Where `gives_way` is 1, Redis lacks memory: then the oldest segment of summaries is dropped, or if there is none any
-- number of letters is too much.
-- KEYS   tasks failures dead dead_bytes counters results remains segment...
-- ARGV   ttl_ms# most_bytes# limit# (letters of one call) gives_way#
-- Returns {dropped, ms until the next step has something to do: 0 at once, -1 never, summaries dropped, 1 if a purge
--        left something in the indexes}.
-- Bounds `limit` letters that are dropped, and as many that are counted: some seven commands each; and a segment.
-- Twice  it makes the next step: what was dropped is dropped no more.
-- Full   what removes nothing is the first write.
--- include clock foreign letters
--- names
local now = now_ms(math.floor)

-- A foreign key in one of their places is refused here, before anything is written.
redis.call('HLEN', tasks)
redis.call('HLEN', failures)
local count = redis.call('ZCARD', dead)
local known = redis.call('HLEN', dead_bytes)
redis.call('ZREM', dead, '')

local noted = redis.call('HMGET', dead_bytes, '.bytes', '.since_ms', '.at')
for field = 1, 3 do
  known = known - (noted[field] and 1 or 0)
end
-- No letter is older than the first start of a version that drops any.
local since_ms = math.min(number_of(noted[2]), now)
local sum = noted[1] or ''
local is_wrong = known > count or known > 0 and (#sum > 15 or not string.find(sum, '^%d+$'))
  or known == 0 and sum ~= '' and sum ~= '0'
if is_wrong then
  redis.call('UNLINK', dead_bytes)
  known = 0
end
if is_wrong or since_ms == 0 then
  since_ms = since_ms > 0 and since_ms or now
  redis.call('HSET', dead_bytes, '.since_ms', string.format('%.0f', since_ms))
end

local is_counting = known < count
if is_counting then
  local at = is_wrong and 0 or number_of(noted[3])
  local keys = redis.call('ZRANGE', dead, at, at + limit - 1)
  for _, key in ipairs(keys) do
    if redis.call('HEXISTS', dead_bytes, key) == 0 then
      keep_letter(dead_bytes, tasks, failures, key)
    end
  end
  -- Behind the last it begins again: letters that went meanwhile have moved others.
  redis.call('HSET', dead_bytes, '.at', #keys == limit and string.format('%.0f', at + limit) or 0)
end

local results_dropped = 0
if gives_way == 1 then
  local number = number_of(redis.call('HGET', results, 'number'))
  for step = 1, 16 do
    local segment = segment_of((number + step) % 16)
    local held = redis.pcall('HLEN', segment)
    if type(held) == 'number' and held > 0 then
      redis.call('UNLINK', segment)
      -- The one that is written is the last: the next summary begins another.
      redis.call('HSET', results, 'until_ms', step == 16 and 0 or redis.call('HGET', results, 'until_ms') or 0)
      add_to_counter(counters, 'results_dropped', held)
      results_dropped = held
      break
    end
  end
  most_bytes = results_dropped > 0 and most_bytes or 0
end

local dropped, wait_ms = 0, -1
while dropped < limit do
  local key, score = unpack(redis.call('ZRANGE', dead, 0, 0, 'WITHSCORES'))
  if not key then
    break
  end
  local died_ms = tonumber(score) or 0
  local left_ms = math.max(died_ms, since_ms) + ttl_ms - now
  if left_ms > 0 and number_of(redis.call('HGET', dead_bytes, '.bytes')) <= most_bytes then
    wait_ms = math.min(left_ms, 1e15)
    break
  end
  redis.call('ZREM', dead, key)
  redis.call('HDEL', tasks, key)
  redis.call('HDEL', failures, key)
  drop_letter(dead_bytes, key)
  dropped = dropped + 1
end
if dropped > 0 then
  add_to_counter(counters, 'dead_dropped', dropped)
end
return {dropped, (is_counting or dropped == limit) and 0 or wait_ms, results_dropped, redis.call('EXISTS', remains)}
