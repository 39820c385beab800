-- Brings the next step of the sweep forward for a task that comes before it, at `soon_ms`. Workers over many shards
-- look so seldom that they would sleep past that: with `must_ring` the bell wakes them by a word of its own, unless
-- somebody makes a step within `near_ms` anyway.
local function look_soon(sweep, bell, next_ms, now, soon_ms, near_ms, must_ring)
  if soon_ms < next_ms then
    redis.call('HSET', sweep, 'next_ms', string.format('%.0f', soon_ms))
  end
  if must_ring and math.abs(next_ms - now) > near_ms then
    redis.pcall('PUBLISH', bell, 'look')
  end
end
