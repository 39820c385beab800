-- retry: record a failed attempt and park its entry under the consumer `waiting`, idle so long that XAUTOCLAIM may take
-- it exactly when the delay is over. The window carries the delay, since Redis clamps a time in the future.
-- KEYS   queue, entries, failures, counters, sweep
-- ARGV   group, consumer, waiting consumer, window (ms), most that may wait, interval of sweeps while anything waits (ms),
--        least step back of the clock that is one (ms),
--        then per task: entry id, key, attempts seen at the claim, delay (ms, at most the window), failure (JSON)
-- Returns per task 1 parked, 0 fenced, 2 too many wait already: nothing done, defer it.
-- Bounds 200 tasks a call, some six commands each; setting delays right after a step of the clock, what waits: 1,000.
-- Twice  the recorded attempts have moved and the owner is another: 0.
-- Full   XCLAIM or HDEL is the first write.
--- include clock fence fields foreign step
local queue, entries, failures, counters, sweep = unpack(KEYS)
local group, consumer, waiting, window_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local most, interval_ms = tonumber(ARGV[5]), tonumber(ARGV[6])
local now = now_ms(math.floor)
local longest_ms = 0
for i = 11, #ARGV, 5 do
  longest_ms = math.max(longest_ms, ARGV[i])
end
local clock_ms = notice_step(queue, group, waiting, window_ms, longest_ms, sweep, now, tonumber(ARGV[7]),
  entries, failures)

local waiting_count = 0
for _, row in ipairs(redis.call('XPENDING', queue, group)[4] or {}) do
  if row[1] == waiting then
    waiting_count = tonumber(row[2])
  end
end

local answer, parked = {}, 0
for i = 8, #ARGV, 5 do
  local id, key, attempts, idle_ms = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), window_ms - ARGV[i + 3]
  if not holds(queue, entries, failures, group, consumer, id, key, attempts) then
    answer[#answer + 1] = 0
  elseif waiting_count + parked >= most then
    answer[#answer + 1] = 2
  else
    -- RETRYCOUNT 0: the delivery count of an entry is the claims since the last outcome.
    redis.call('XCLAIM', queue, group, waiting, 0, id, 'IDLE', idle_ms, 'RETRYCOUNT', 0, 'JUSTID')
    redis.call('HSET', failures, key, (attempts + 1) .. ' ' .. ARGV[i + 4])
    parked = parked + 1
    answer[#answer + 1] = 1
  end
end
if parked > 0 then
  add_to_counter(counters, 'failed', parked)
  redis.call('HSET', sweep, 'clock_ms', clock_ms)
  local soon_ms = now + interval_ms
  if soon_ms < number_of(redis.call('HGET', sweep, 'next_ms')) then
    redis.call('HSET', sweep, 'next_ms', string.format('%.0f', soon_ms))
  end
end
return answer
