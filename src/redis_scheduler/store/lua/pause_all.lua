-- pause_all: stop all promotions, or let them go on. Workers see it with their next promotion, within a second, and
-- then claim nothing either.
-- KEYS   pause_all bell
-- ARGV   wanted (1: nothing is promoted; 0: it goes on)
-- Returns since when nothing is promoted, in ms; '' if it is.
-- Bounds one key.
-- Twice  it is so already, and the answer is the same.
-- Full   UNLINK is the first write.
--- include clock
--- names

local since = redis.call('GET', pause_all)
if wanted == '1' and not since then
  since = string.format('%.0f', now_ms(math.floor))
  redis.call('UNLINK', pause_all)
  redis.call('SET', pause_all, since)
elseif wanted == '0' and since then
  since = nil
  redis.call('UNLINK', pause_all)
  redis.pcall('PUBLISH', bell, '')
end
return since or ''
