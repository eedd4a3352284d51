package moodle

import "testing"

func TestDecodeValueReadsTheScalarsOfBothSerialisers(t *testing.T) {
	const igbinary = "\x00\x00\x00\x02"
	tests := map[string]struct {
		raw  string
		want scalar
	}{
		"php null":             {"N;", scalar{}},
		"php int":              {"i:-3;", scalar{kindInt, "-3"}},
		"php string":           {`s:4:"a"";";`, scalar{kindString, `a"";`}},
		"php boolean":          {"b:1;", scalar{kindBool, "1"}},
		"php float":            {"d:-1.5E-7;", scalar{kindFloat, "-1.5E-7"}},
		"igbinary null":        {igbinary + "\x00", scalar{}},
		"igbinary false":       {igbinary + "\x04", scalar{kindBool, "0"}},
		"igbinary true":        {igbinary + "\x05", scalar{kindBool, "1"}},
		"igbinary int 8":       {igbinary + "\x06\xff", scalar{kindInt, "255"}},
		"igbinary int -8":      {igbinary + "\x07\x03", scalar{kindInt, "-3"}},
		"igbinary int 16":      {igbinary + "\x08\x01\x00", scalar{kindInt, "256"}},
		"igbinary int 32":      {igbinary + "\x0a\x6b\x02\x8a\x3f", scalar{kindInt, "1795328575"}},
		"igbinary int 64":      {igbinary + "\x20\x7f\xff\xff\xff\xff\xff\xff\xff", scalar{kindInt, "9223372036854775807"}},
		"igbinary int -64":     {igbinary + "\x21\x80\x00\x00\x00\x00\x00\x00\x00", scalar{kindInt, "-9223372036854775808"}},
		"igbinary empty":       {igbinary + "\x0d", scalar{kindString, ""}},
		"igbinary string 8":    {igbinary + "\x11\x01a", scalar{kindString, "a"}},
		"igbinary string 16":   {igbinary + "\x12\x00\x01a", scalar{kindString, "a"}},
		"igbinary string 32":   {igbinary + "\x13\x00\x00\x00\x01a", scalar{kindString, "a"}},
		"igbinary of format 1": {"\x00\x00\x00\x01\x11\x01a", scalar{kindString, "a"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := decodeValue(tt.raw); err != nil || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
			if tt.want == (scalar{}) || tt.raw == igbinary+"\x0d" {
				return
			}
			if got, err := decodeValue(tt.raw[:len(tt.raw)-1]); err == nil && len(tt.raw) > len(igbinary)+1 {
				t.Errorf("cut off: %+v", got)
			}
		})
	}
	if got, err := decodeValue(igbinary + "\x20\xff\xff\xff\xff\xff\xff\xff\xff"); err == nil {
		t.Errorf("an overflow: %+v", got)
	}
}
