-- When the first one was due of those that wait for the turn of their token (turns.lua): of each of 16 lines at most
-- the first task, unless its record is behind 1 MiB of others. A retry does not count: of that only the time of its
-- first attempt is kept.
local function first_in_lines(held, tasks, failures)
  local first_ms, line, read_most = math.huge, 0, 1048576
  for _ = 1, 16 do
    local head = redis.pcall('ZRANGEBYSCORE', held, turn_score(line, 0), '(0', 'WITHSCORES', 'LIMIT', 0, 1)
    if head.err or not head[1] or read_most <= 0 then
      break
    end
    local record = redis.pcall('HGET', tasks, head[1])
    if type(record) == 'string' and redis.pcall('HEXISTS', failures, head[1]) == 0 then
      first_ms = math.min(first_ms, tonumber(string.match(record, '^{"due":(%d+)')) or math.huge)
      read_most = read_most - #record
    end
    line = turn_of(head[2]) + 1
  end
  return first_ms
end

-- For how many ms the first task has been due that no worker has claimed, 0 if none is; and when the first of `due` is,
-- nil if there is none. A claimed entry is gone once its outcome is written: so the first that was never claimed is
-- behind the last that is pending (false: none is). Its id tells when it was promoted.
local function oldest_due(due, queue, held, tasks, failures, last_pending, now)
  local head, never_claimed = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES'),
    redis.call('XRANGE', queue, last_pending and '(' .. last_pending or '-', '+', 'COUNT', 1)[1]
  local since = math.min(tonumber(head[2]) or now, never_claimed and tonumber(never_claimed[1]:match('^%d+')) or now,
    first_in_lines(held, tasks, failures))
  return math.max(0, math.min(now - since, 1e15)), head[2]
end
