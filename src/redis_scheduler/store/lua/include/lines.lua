-- What is held stands in lines, one for each limit: a host, or what tasks name as `limit_key`. All lines are one sorted
-- set, in which each has a range of scores: its number times 2^34, and behind it a time in 64 ms since 2020. Permits
-- stand in the same ranges of another set, by the time at which they end.
local LINE, LINES, UNIT_MS, EPOCH_MS = 2 ^ 34, 2 ^ 19, 64, 1577836800000

local function line_score(number, at_ms)
  local units = math.floor((at_ms - EPOCH_MS) / UNIT_MS)
  return string.format('%.0f', number * LINE + math.max(0, math.min(LINE - 1, units)))
end

-- The range of a line, as ZRANGEBYSCORE takes it.
local function line_range(number)
  return string.format('%.0f', number * LINE), string.format('(%.0f', (number + 1) * LINE)
end

-- The line of a limit, one of the eight that a hash of salt and name says: its number (nil: all eight are others'), and
-- the ms until which its rate is used up, or nil where it is not kept yet.
local function line_of(lines, limit, salt)
  local digits, numbers, free = redis.sha1hex(salt .. limit), {}, nil
  for at = 1, 36, 5 do
    local number = tonumber(string.sub(digits, at, at + 4), 16) % LINES
    numbers[#numbers + 1] = string.format('%.0f', number)
  end
  for probe, kept in ipairs(redis.call('HMGET', lines, unpack(numbers))) do
    local used_ms, of = string.match(kept or '', '^(%d+%.?%d*) (.*)$')
    if of == limit then
      return tonumber(numbers[probe]), tonumber(used_ms)
    end
    free = free or not of and tonumber(numbers[probe]) or nil
  end
  return free
end
