-- watch: take the turn to look after the deployment, unless it is another process'.
-- KEYS   alerts
-- ARGV   turn_ms# (for so long it is its own)
-- Returns '' where another has it; else '<ms> <ms>': now, and up to when dead letters were looked at, '-' for never.
-- Bounds one key, two fields.
-- Twice  the turn is taken already: nobody looks until it is over.
-- Full   HDEL of nothing is the first write: it is taken all the same.
--- include clock
--- names
local now = now_ms(math.floor)
local taken = tonumber(redis.call('HGET', alerts, 'turn') or '') or 0
-- A clock that was set back must not keep all from looking.
if now < taken + turn_ms and now >= taken - turn_ms then
  return ''
end
redis.call('HDEL', alerts, '')
redis.call('HSET', alerts, 'turn', string.format('%.0f', now))
local seen = redis.call('HGET', alerts, 'seen') or ''
return string.format('%.0f ', now) .. (seen:match('^%d+$') and #seen < 16 and seen or '-')
