-- token_take: ask whether a token with limits may have more waiting, and count tasks towards its rate. What it has
-- waiting is counted by the scripts that enter and end tasks (include/types.lua).
-- KEYS   token_rate token_coming owned
-- ARGV   entering# (tasks more) growing# (bytes of records more) coming# coming_bytes# (the same of what this process
--        has asked for before, and that may not be there yet) most (tasks waiting; '' for no limit) most_bytes rate
--        (tasks a second; '' for no limit) rated# (tasks towards that) process ('': it tells nothing) number# (of what
--        it tells: what is older counts no more) held# held_bytes# (what it has asked for, with this, so that others
--        count it) kept_ms# (for so long, if it tells nothing more)
-- Returns 'tasks' or 'bytes' and how many wait; 'wait' and for how many ms; 'taken' and 0. Behind it how many tasks and
--        bytes wait, -1 where that was not asked for. Where it may go on, tasks that are more than a second's are taken
--        whole, and those behind them wait until their time is over.
-- Bounds ten commands, and one for each process that has ended meanwhile.
-- Twice  the rate is taken twice: the token has less for a moment, never more.
-- Full   where there is a rate it is refused, as the tasks would be; else nothing is told to other processes.
--- include clock foreign
--- names

-- A foreign key in its place has none of its tasks.
local function number_by(...)
  local number = redis.pcall(...)
  return type(number) == 'table' and 0 or number_of(number)
end

-- What other processes have asked for, and that may not be there yet.
local function others_coming()
  local fields, now, tasks, bytes = redis.pcall('HGETALL', token_coming), now_ms(math.floor), 0, 0
  for at = 1, #fields, 2 do
    local held_there, bytes_there, until_ms = string.match(fields[at + 1], '^(%d+) (%d+) (%d+) %d+$')
    local left_ms = number_of(until_ms) - now
    if left_ms <= 0 or left_ms > kept_ms then
      redis.pcall('HDEL', token_coming, fields[at])
    elseif fields[at] ~= process then
      tasks, bytes = tasks + tonumber(held_there), bytes + tonumber(bytes_there)
    end
  end
  return tasks, bytes
end

local function tell()
  local told = redis.pcall('HGET', token_coming, process)
  if type(told) == 'string' and number_of(string.match(told, ' (%d+)$')) >= number then
    return
  end
  if held <= 0 and held_bytes <= 0 then
    redis.pcall('HDEL', token_coming, process)
  else
    redis.pcall('HSET', token_coming, process,
      string.format('%.0f %.0f %.0f %.0f', held, held_bytes, now_ms(math.floor) + kept_ms, number))
    redis.pcall('PEXPIRE', token_coming, string.format('%.0f', kept_ms))
  end
end

if most ~= '' and entering > 0 or most_bytes ~= '' and growing > 0 then
  local tasks, bytes = others_coming()
  coming, coming_bytes = coming + tasks, coming_bytes + bytes
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
if process ~= '' then
  tell()
end
return {'taken', 0, waiting, waiting_bytes}
