-- The id of the token whose task a record is; nil for API_AUTH's, and for a record that is none. Options, content and
-- labels may have members that are named so, too: so only the place counts. In a sealed record that is the end of the
-- head; in another it is behind the type, or the ttl, and what stands before is texts, which have no bare quote.
local function owner_of(record)
  local length, behind = string.match(record, '^{"due":%d+,"head":(%d+)()')
  if not length then
    length, behind = string.match(record, '^{"due":%d+,"again":%d+,"head":(%d+)()')
  end
  if not length then
    return nil
  end
  if string.sub(record, behind, behind + 7) == ',"seal":' then
    local last = behind + length - 1
    return string.match(string.sub(record, last - 20, last), '^,"token":"(%x+)"$')
  end
  local front = string.match(record, ',"ttl":[^,]*()', behind)
  if not front then
    return nil
  end
  local owner = string.match(record, '^,"token":"(%x+)"', front)
    or string.match(record, '^,"type":"[^"\\]*","token":"(%x+)"', front)
  if not owner and string.match(record, '^,"type":"[^"\\]*\\', front) then
    -- A type with escapes: 100 characters of 12 bytes at most.
    local text = string.gsub(string.sub(record, front, front + 1300), '\\.', '..')
    owner = string.match(text, '^,"type":"[^"]*","token":"(%x+)"')
  end
  return owner
end
