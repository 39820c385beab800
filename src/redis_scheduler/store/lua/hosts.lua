-- hosts: how limits are set, and what stands under each. Reads only.
-- KEYS   held lines permits limits breakers sweep
-- ARGV   permit_ms# (that a permit lasts without a renewal)
-- each   limit
-- Returns per limit: how it is set (false: it is not), tasks that are held, permits that are held, and what is kept of
--        its breaker (false: nothing).
-- Bounds 200 limits a call, five commands each.
--- include clock lines limits
--- names
local now, answer, salt = now_ms(math.floor), {}, redis.call('HGET', sweep, 'salt')
for at = first, #ARGV, width do
  --- row
  local number, count, running = salt and line_of(lines, limit, salt), 0, 0
  if number then
    local least, greatest = line_range(number)
    count = redis.call('ZCOUNT', held, least, greatest)
    running = permits_held(permits, number, now, permit_ms)
  end
  answer[#answer + 1] = redis.call('HGET', limits, limit)
  answer[#answer + 1] = count
  answer[#answer + 1] = running
  answer[#answer + 1] = redis.call('HGET', breakers, limit)
end
return answer
