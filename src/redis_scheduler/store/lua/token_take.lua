-- token_take: ask whether a token with limits may schedule tasks now, and count them towards its rate. What waits is
-- counted by the indexes of its types.
-- KEYS   token_rate type_index...
-- ARGV   entering# (tasks to be scheduled) coming# (those that this process has asked for before, and that may not be
--        there yet) rate (tasks a second; '' for no limit) most (tasks waiting; '' for no limit) types...
-- Returns 'full' and how many tasks wait; 'wait' and for how many ms; 'taken' and 0. Where it may go on, tasks that are
--        more than a second's are taken whole, and those behind them wait until their time is over.
-- Bounds 50 types, one command each.
-- Twice  the rate is taken twice: the token has less for a moment, never more.
-- Full   where there is a rate it is refused, as the tasks would be.
--- include clock foreign
--- names

if most ~= '' then
  local waiting = 0
  for number = 1, type_count do
    local count = redis.pcall('ZCARD', (type_of(number)))
    waiting = waiting + (type(count) == 'number' and count or 0)
  end
  if waiting + coming + entering > tonumber(most) then
    return {'full', waiting}
  end
end
if rate ~= '' then
  -- When the rate of all that was taken is over, and a second's worth may be taken ahead of it.
  local now, one_ms = now_us() / 1000, 1000 / tonumber(rate)
  local free_ms = math.max(now, number_of(redis.call('GET', token_rate)))
  local wait_ms = free_ms - now - math.max(0, 1000 - one_ms)
  if wait_ms > 0.001 then
    return {'wait', math.ceil(wait_ms)}
  end
  free_ms = free_ms + entering * one_ms
  redis.call('SET', token_rate, string.format('%.3f', free_ms), 'PX', string.format('%.0f', free_ms - now + 1000))
end
return {'taken', 0}
