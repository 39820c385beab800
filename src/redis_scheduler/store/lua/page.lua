-- page: read a page of a ZSET by (score, member), up or down, starting behind a member that may be gone meanwhile.
-- Reads only.
-- KEYS   index (the ZSET)
-- ARGV   score member (of the last one seen; '' '' for the start) limit# is_down ('1' to begin with the greatest)
-- Returns {member, score, …}.
-- Bounds two look-ups by rank; some more (log n) if the member is gone: the time does not grow with the set.
--- names

-- Lua compares texts by the server's locale, a ZSET by their bytes.
local function is_at_or_before(one, other)
  for i = 1, math.min(#one, #other) do
    local difference = string.byte(one, i) - string.byte(other, i)
    if difference ~= 0 then
      return difference < 0
    end
  end
  return #one <= #other
end

local start, is_there = 0, false
if score ~= '' then  -- a member may be '', from foreign hands
  if redis.call('ZSCORE', index, member) == score then
    start, is_there = redis.call('ZRANK', index, member) + 1, true
  else
    -- Members of one score stand in the order of their bytes: find where the lost one stood.
    start = redis.call('ZCOUNT', index, '-inf', '(' .. score)
    local stop = start + redis.call('ZCOUNT', index, score, score)
    while start < stop do
      local middle = math.floor((start + stop) / 2)
      if is_at_or_before(redis.call('ZRANGE', index, middle, middle)[1], member) then
        start = middle + 1
      else
        stop = middle
      end
    end
  end
end
if is_down == '1' then
  local count = redis.call('ZCARD', index)
  local seen = score == '' and 0 or count - start + (is_there and 1 or 0)
  return redis.call('ZRANGE', index, seen, seen + limit - 1, 'REV', 'WITHSCORES')
end
return redis.call('ZRANGE', index, start, start + limit - 1, 'WITHSCORES')
