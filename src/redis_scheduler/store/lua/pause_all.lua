-- pause_all: stop all promotions, or let them go on. The bell has workers promote, which see it, and then claim nothing
-- either; one that does not hear it sees it with its next look.
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
  redis.pcall('PUBLISH', bell, '')
elseif wanted == '0' and since then
  since = nil
  redis.call('UNLINK', pause_all)
  redis.pcall('PUBLISH', bell, '')
end
return since or ''
