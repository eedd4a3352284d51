package mnet

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValuesAreReadFromJSON(t *testing.T) {
	for text, want := range map[string]Value{
		`"a"`:                            "a",
		` 7 `:                            7,
		`-7`:                             -7,
		`1.5`:                            1.5,
		`1e3`:                            1000.0,
		`true`:                           true,
		`null`:                           "",
		`[]`:                             Array{},
		`{}`:                             Struct{},
		`["a",[1,{"b":[]}]]`:             Array{"a", Array{1, Struct{{"b", Array{}}}}},
		`{"z":1,"a":{"y":"","b":false}}`: Struct{{"z", 1}, {"a", Struct{{"y", ""}, {"b", false}}}},
	} {
		got, err := ParseJSON([]byte(text))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
	for text, want := range map[string]string{
		"":                             "unexpected EOF",
		"[1":                           "unexpected EOF",
		"[1}":                          "invalid character",
		"[1,]":                         "invalid character",
		"]":                            "invalid character",
		"1 2":                          "something follows",
		`{"a":1,"a":2}`:                `member "a" is repeated`,
		`{1:2}`:                        "invalid character",
		"1e999":                        "out of range",
		strings.Repeat("[", 99):        "nested too deep",
		strings.Repeat(" ", MaxBody+1): "larger than",
	} {
		if got, err := ParseJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, error %v; want %q", text, got, err, want)
		}
	}
}

func TestAStructKeepsItsOrderInJSON(t *testing.T) {
	got, err := json.Marshal(Array{Struct{{"z", "<"}, {"a", Struct{}}, {"m\"", Array{1, true, 1.5}}}})
	if want := `[{"z":"\u003c","a":{},"m\"":[1,true,1.5]}]`; err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

// What was read from JSON must survive being written and read again.
func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,-2.5,"x",null,true,{"b":{}}],"c":1e30}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseJSON(b)
		if err != nil {
			return
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseJSON(text)
		if err != nil || cleanAll(Array{v}) != cleanAll(Array{again}) {
			t.Errorf("%v\n%s", err, cmp.Diff(v, again))
		}
	})
}
