-- hold: send claims back that a limit does not let begin yet, into the line of that limit. Burns no attempt.
-- KEYS   queue entries failures held lines sweep
-- ARGV   group consumer offered_salt (of the hash of limits, if none is kept)
-- each   id (of the entry) key attempts# (seen at the claim) limit
-- Returns per task 1 held, 0 fenced, 2 all lines that the limit may have are others': nothing done, defer it.
-- Bounds 200 tasks a call, some nine commands each.
-- Twice  the entry is gone: 0.
-- Full   XDEL of nothing is the first write.
--- include clock ours fence lines salt
--- names
local now = now_ms(math.floor)
-- Without the group, or with a foreign key in one of their places, this fails here, before any write.
redis.call('XPENDING', queue, group, '-', '+', 1)
refuse_foreign({lines, sweep}, {held})
redis.call('XDEL', queue, '0-0')

local answer, numbers, held_count = {}, {}, 0
for at = first, #ARGV, width do
  --- row
  local is_held = holds(queue, entries, failures, group, consumer, id, key, attempts)
  if is_held and not numbers[limit] then
    local number, used_ms = line_of(lines, limit, salt_of(sweep, offered_salt))
    if number and not used_ms then
      redis.call('HSET', lines, string.format('%.0f', number), '0 ' .. limit)
    end
    numbers[limit] = number
  end
  if not is_held then
    answer[#answer + 1] = 0
  elseif not numbers[limit] then
    answer[#answer + 1] = 2
  else
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
    redis.call('HDEL', entries, key)
    redis.call('ZADD', held, line_score(numbers[limit], now), key)
    held_count = held_count + 1
    answer[#answer + 1] = 1
  end
end
if held_count > 0 then
  redis.call('HDEL', sweep, 'round_ms')  -- a round is due: the line may have room
  if redis.call('HEXISTS', sweep, 'limits') == 0 then  -- so that workers that know of no limit look at them
    redis.call('HSET', sweep, 'limits', string.format('%.0f', now))
  end
end
return answer
