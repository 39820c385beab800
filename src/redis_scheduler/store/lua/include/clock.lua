-- Redis' clock, in us and in ms. Round down to ask what is due, up to say when something shall be: so nothing is early.
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function now_ms(round)
  return round(now_us() / 1000)
end
