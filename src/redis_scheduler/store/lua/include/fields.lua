-- The value of a field in an answer that lists names and values in turn, as those of XINFO do.
local function value_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
end
