-- Removes members, if there are any. By ZREM, which a user may call anyway: ranges have commands of their own.
local function drop(set, members)
  if #members > 0 then
    redis.call('ZREM', set, unpack(members))
  end
end

-- Removes those with the lowest scores beyond so many: a hundred at most.
local function drop_surplus(set, most)
  local surplus = redis.call('ZCARD', set) - most
  if surplus > 0 then
    drop(set, redis.call('ZRANGE', set, 0, math.min(100, surplus) - 1))
  end
end
