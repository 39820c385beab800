-- sign_in: note that somebody is signed in at the dashboard until an end. Where as many are as may be, what has ended
-- goes, else the oldest of whoever has most: nobody signs out others by signing in often.
-- KEYS   sign_ins
-- ARGV   digest (of the text in the cookie) whose (own, or the id of a token) proof lasts_ms# most#
-- Returns how many were dropped before their end.
-- Bounds one; where there are as many as may be, a look at these. More are foreign hands': then all are dropped.
-- Twice  it is there already: nothing.
-- Full   HDEL of nothing is the first write: whoever is to make room gets in.
--- include clock
--- names

if redis.call('HEXISTS', sign_ins, digest) == 1 then
  return 0
end
local now, dropped = now_ms(math.floor), 0
redis.call('HDEL', sign_ins, digest)
if redis.call('HLEN', sign_ins) > most then
  redis.call('UNLINK', sign_ins)
elseif redis.call('HLEN', sign_ins) == most then
  local counts, oldest, ends, of_most = {}, {}, {}, nil
  local fields = redis.call('HGETALL', sign_ins)
  for at = 1, #fields, 2 do
    local end_ms, whom = fields[at + 1]:match('^(%d+) (%w+) %w+$')
    if not end_ms or tonumber(end_ms) <= now then
      redis.call('HDEL', sign_ins, fields[at])
    else
      counts[whom] = (counts[whom] or 0) + 1
      if not oldest[whom] or tonumber(end_ms) < ends[whom] then
        oldest[whom], ends[whom] = fields[at], tonumber(end_ms)
      end
    end
  end
  for whom, count in pairs(counts) do
    if not of_most or count > counts[of_most] then
      of_most = whom
    end
  end
  if redis.call('HLEN', sign_ins) == most then
    dropped = redis.call('HDEL', sign_ins, oldest[of_most])
  end
end
redis.call('HSET', sign_ins, digest, string.format('%.0f %s %s', now + lasts_ms, whose, proof))
return dropped
