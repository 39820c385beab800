-- Redis' clock was set back, which the greatest time tells that a sweep or a retry has seen; to be included after
-- `fields` and `foreign`.
-- The old clock is Redis' clock before it was set back, the new clock the one after. An entry that is pending since a
-- time of the old clock would stay so until the new clock has caught up: its idle time is below zero.
-- This lets the delays of waiting entries go on where they were. Delivery times tell where, which only XINFO shows.
-- `rewind` does the same for leases and for `due`. No delay ends early, since the clock was set back by at least
-- `set_back_ms`. The set-back is noticed before anything is parked by the new clock: so all that waits was parked by
-- the old clock.

-- A delivery time in the future is one of the old clock. One in the past is so too, unless the server was started after
-- the set-back: then it took delivery times in the future for its own present. Where that may be, an entry waits for
-- `delay_ms` more at most: none was parked for longer. So does each entry behind the first 2,000.
local function set_delays_right(queue, group, waiting, window_ms, delay_ms, now, set_back_ms)
  local function park(id, idle_ms)
    idle_ms = math.max(0, math.min(window_ms, idle_ms))
    redis.call('XCLAIM', queue, group, waiting, 0, id, 'IDLE', idle_ms, 'JUSTID')
  end

  local parked_at_ms, told, last_id = window_ms - delay_ms, 0, nil
  -- Who may not ask goes without.
  local stream = redis.pcall('XINFO', 'STREAM', queue, 'FULL', 'COUNT', 2000)
  for _, info in ipairs(stream.err and {} or value_of(stream, 'groups')) do
    for _, consumer in ipairs(value_of(info, 'name') == group and value_of(info, 'consumers') or {}) do
      for _, row in ipairs(value_of(consumer, 'name') == waiting and value_of(consumer, 'pending') or {}) do
        local idle_ms = now - row[2]
        if idle_ms < 0 or set_back_ms <= parked_at_ms then
          park(row[1], idle_ms + set_back_ms)
        else
          park(row[1], math.max(idle_ms, parked_at_ms))
        end
        told, last_id = told + 1, row[1]
      end
    end
  end
  if stream.err or told == 2000 then
    local rest = redis.call('XPENDING', queue, group, last_id and '(' .. last_id or '-', '+', 20000, waiting)
    for _, row in ipairs(rest) do
      park(row[1], math.max(row[3], parked_at_ms))
    end
  end
end

-- Returns the greatest time seen, as text, and the longest delay that anything was parked for. The last arguments are
-- hashes that the caller will read.
local function notice_clock_set(queue, group, waiting, window_ms, sweep, now, least_ms, ...)
  local state = redis.call('HMGET', sweep, 'clock_ms', 'parked_ms', 'set_back_times')
  local greatest_ms, parked_ms = number_of(state[1]), state[2] and number_of(state[2])
  local set_back_ms = greatest_ms - now
  if set_back_ms < least_ms then
    return string.format('%.0f', math.max(greatest_ms, now)), parked_ms or 0
  end
  -- Without the group, or with a foreign key in the place of a hash, this fails here, before any write.
  redis.call('XPENDING', queue, group)
  for _, hash in ipairs({...}) do
    redis.call('HLEN', hash)
  end
  local unfinished = redis.call('HMGET', sweep, 'step_ms', 'rewind_from_ms')
  -- A removal first, so that a full Redis does not refuse what follows.
  redis.call('HDEL', sweep, 'clock_ms', 'cursor', 'next_ms', 'seen_ms', 'held_until_ms', 'look_by_ms', 'rewound')
  window_ms = tonumber(window_ms)
  set_delays_right(queue, group, waiting, window_ms, math.min(window_ms, parked_ms or window_ms), now, set_back_ms)
  redis.call('HSET', sweep, 'clock_ms', string.format('%.0f', now), 'step_ms',
    string.format('%.0f %s', set_back_ms, unfinished[1] or ''), 'rewind_from_ms',
    string.format('%.0f', math.max(greatest_ms, number_of(unfinished[2]))), 'set_back_times', number_of(state[3]) + 1)
  return string.format('%.0f', now), parked_ms or 0
end
