-- token_take: ask whether a token with limits may have more waiting, and count tasks towards its rate. What it has
-- waiting is counted by the scripts that enter and end tasks (include/types.lua).
-- KEYS   token_rate owned
-- ARGV   entering# (tasks more) growing# (bytes of records more) coming# coming_bytes# (the same of what this process
--        has asked for before, and that may not be there yet) most (tasks waiting; '' for no limit) most_bytes rate
--        (tasks a second; '' for no limit) rated# (tasks towards that)
-- Returns 'tasks' or 'bytes' and how many wait; 'wait' and for how many ms; 'taken' and 0. Behind it how many tasks and
--        bytes wait, -1 where that was not asked for. Where it may go on, tasks that are more than a second's are taken
--        whole, and those behind them wait until their time is over.
-- Bounds six commands.
-- Twice  the rate is taken twice: the token has less for a moment, never more.
-- Full   where there is a rate it is refused, as the tasks would be.
--- include clock foreign
--- names

-- A foreign key in its place has none of its tasks.
local function number_by(...)
  local number = redis.pcall(...)
  return type(number) == 'table' and 0 or number_of(number)
end

local waiting, waiting_bytes = -1, -1
if most ~= '' and entering > 0 then
  waiting = number_by('HLEN', owned) - number_by('HEXISTS', owned, '.bytes')
  if waiting + coming + entering > tonumber(most) then
    return {'tasks', waiting, waiting, waiting_bytes}
  end
end
if most_bytes ~= '' and growing > 0 then
  waiting_bytes = number_by('HGET', owned, '.bytes')
  if waiting_bytes + coming_bytes + growing > tonumber(most_bytes) then
    return {'bytes', waiting_bytes, waiting, waiting_bytes}
  end
end
if rate ~= '' and rated > 0 then
  -- When the rate of all that was taken is over, and a second's worth may be taken ahead of it.
  local now, one_ms = now_us() / 1000, 1000 / tonumber(rate)
  local free_ms = math.max(now, number_of(redis.call('GET', token_rate)))
  local wait_ms = free_ms - now - math.max(0, 1000 - one_ms)
  if wait_ms > 0.001 then
    return {'wait', math.ceil(wait_ms), waiting, waiting_bytes}
  end
  free_ms = free_ms + rated * one_ms
  redis.call('SET', token_rate, string.format('%.3f', free_ms), 'PX', string.format('%.0f', free_ms - now + 1000))
end
return {'taken', 0, waiting, waiting_bytes}
