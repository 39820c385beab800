-- watch: take the turn to look after the deployment, unless it is another process'; or keep it.
-- KEYS   alerts
-- ARGV   turn_ms# (for so long from now on it is its own) who (takes it: a name that no other has) keeps# (1: it has
--        the turn, and keeps it unless another has taken it since) led_ms# (it is another process' where a copy came so
--        short a time ago: alert_copy)
-- Returns '' where another has it; else '<ms> <ms>…': now, and up to when dead letters of each shard were looked at, by
--        its clock, '-' or nothing for never.
-- Bounds one key, five fields.
-- Twice  the turn is taken already: nobody looks until it is over. What was kept is kept again.
-- Full   HDEL of nothing is the first write: it is taken all the same.
--- include clock foreign
--- names
local now = now_ms(math.floor)
local taken, led = number_of(redis.call('HGET', alerts, 'turn')), number_of(redis.call('HGET', alerts, 'led'))
-- A clock that was set back must not keep all from looking.
local is_over = now >= taken + turn_ms or now < taken - turn_ms
local is_led = led <= now and now < led + led_ms
if keeps == 1 and redis.call('HGET', alerts, 'who') ~= who or keeps == 0 and (is_led or not is_over) then
  return ''
end
redis.call('HDEL', alerts, '')
redis.call('HSET', alerts, 'turn', string.format('%.0f', now), 'who', who)
local seen = redis.call('HGET', alerts, 'seen') or ''
return string.format('%.0f ', now) .. (#seen < 256 and seen or '-')
