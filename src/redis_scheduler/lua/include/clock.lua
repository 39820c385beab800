-- Redis' clock in ms. Rounded down to ask what is due, up to say when something shall be: so nothing is ever early.
local function now_ms(round)
  local time = redis.call('TIME')
  return time[1] * 1000 + round(time[2] / 1000)
end
