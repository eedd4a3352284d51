package mnet

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func response(value string) []byte {
	return []byte("<methodResponse><params><param><value>" + value + "</value></param></params></methodResponse>")
}

func TestValuesAreReadLiberally(t *testing.T) {
	for value, want := range map[string]Value{
		"":                                      "",
		" untyped ":                             " untyped ",
		"<string/>":                             "",
		" <string> kept </string>\n":            " kept ",
		"<string>a&#10;b&amp;&#xe9;</string>":   "a\nb&é",
		"<string><![CDATA[<b>&amp;]]></string>": "<b>&amp;",
		"<string>a<!-- no -->b</string>":        "ab",
		"<string>a\r\nb\rc</string>":            "a\nb\nc",
		"<int> -7 </int>":                       -7,
		"<i4>+7</i4>":                           7,
		"<i8>9007199254740993</i8>":             9007199254740993,
		"<boolean>1</boolean>":                  true,
		"<boolean>false</boolean>":              false,
		"<double>-0.5</double>":                 -0.5,
		"<base64>aGVs\nbG8=</base64>":           "hello",
		"<dateTime.iso8601>20260101T00:00:00</dateTime.iso8601>":                       "20260101T00:00:00",
		"<array><data/></array>":                                                       Array{},
		"<array>\n<data>\n<value>a</value> <value><int>1</int></value></data></array>": Array{"a", 1},
		"<struct/>": Struct{},
		"<struct><member><name>last log id</name><value><string>0</string></value></member></struct>": Struct{{"last log id", "0"}},
	} {
		got, err := DecodeResponse(response(value))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: error %v (-want +got)\n%s", value, err, diff)
		}
	}
}

func TestMalformedValuesAreRefused(t *testing.T) {
	for _, value := range []string{
		"<nil/>", "<ex:nil/>", "<unknown>1</unknown>", "x<string>a</string>", "<string>a</string>x",
		"<string>a</string><string>b</string>", "<string><b/></string>",
		"<int></int>", "<int>1.5</int>", "<int>99999999999999999999</int>", "<boolean>2</boolean>",
		"<double>NaN</double>", "<double>1e999</double>", "<base64>!</base64>",
		"<array></array>", "<array><data/><data/></array>", "<array><data>x</data></array>", "<array><data><string>a</string></data></array>",
		"<struct><member/></struct>", "<struct><member><name>a</name></member></struct>",
		"<struct><member><value>a</value><name>a</name></member></struct>",
		"<struct><member><name>a</name><value>1</value></member><member><name>a</name><value>2</value></member></struct>",
		"&nbsp;", "&#0;", "&#xD800;", "&#xFFFE;", "&#x110000;", "&", "&amp", "&;", "&#;", "&#x;", "&#-1;", "\x00", "\xff",
	} {
		if got, err := DecodeResponse(response(value)); err == nil {
			t.Errorf("%q is read as %#v", value, got)
		}
	}
}

func TestMalformedDocumentsAreRefused(t *testing.T) {
	call := "<methodCall><methodName>a/b</methodName></methodCall>"
	if _, _, err := DecodeCall([]byte(call)); err != nil {
		t.Fatal(err)
	}
	for _, doc := range []string{
		"", " ", "x", "<", "<a", "<methodCall", "<methodCall>", "<methodCall/>",
		call + "x", call + call, "x" + call, "<!DOCTYPE methodCall>" + call, "<?php ?>" + call,
		`<!DOCTYPE a [<!ENTITY b "c">]>` + call,
		`<?xml version="1.0" encoding="utf-16"?>` + call, `<?xml version="1.0" encoding=?>` + call, `<?xml ` + call,
		"<methodCall><methodName></methodName></methodCall>",
		"<methodCall><methodName>a</methodName><methodName>b</methodName></methodCall>",
		"<methodCall><methodName>a</methodName><params/><params/></methodCall>",
		"<methodCall><methodName>a</methodName><other/></methodCall>",
		"<methodCall><methodName>a</methodName><params><value>1</value></params></methodCall>",
		"<methodCall><methodName>a</methodName><params><param/></params></methodCall>",
		"<methodCall><methodName>a</methodcall></methodName>",
		"<methodCall a=b><methodName>a</methodName></methodCall>",
		"<methodCall a='<'><methodName>a</methodName></methodCall>",
		"<methodCall a='1'b='2'><methodName>a</methodName></methodCall>",
		"<methodResponse/>", "<methodResponse><params/></methodResponse>",
		"<methodResponse><fault><value>1</value></fault></methodResponse>",
		"<methodResponse><params><param><value/></param></params><fault/></methodResponse>",
	} {
		if _, _, err := DecodeCall([]byte(doc)); err == nil {
			t.Errorf("call %q is accepted", doc)
		}
		if v, err := DecodeResponse([]byte(doc)); err == nil {
			t.Errorf("response %q is read as %v", doc, v)
		}
	}
}

func TestADocumentMayDeclareLatin1(t *testing.T) {
	doc := "<?xml version='1.0' encoding='ISO-8859-1'?>\n" + string(response("Zo\xeb"))
	if v, err := DecodeResponse([]byte(doc)); v != "Zoë" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
}

func TestSizeDepthAndNumberOfValuesAreBounded(t *testing.T) {
	nested := func(n int) []byte {
		return response(strings.Repeat("<array><data><value>", n-1) + strings.Repeat("</value></data></array>", n-1))
	}
	many := func(n int) []byte {
		return response("<array><data>" + strings.Repeat("<value/>", n-1) + "</data></array>")
	}
	for name, c := range map[string]struct {
		doc []byte
		ok  bool
	}{
		"values 32 deep":   {nested(MaxDepth), true},
		"values 33 deep":   {nested(MaxDepth + 1), false},
		"values 5000 deep": {nested(5000), false},
		"10,000 values":    {many(MaxValues), true},
		"10,001 values":    {many(MaxValues + 1), false},
		"1 MiB":            {response(strings.Repeat("x", MaxBody-len(response("")))), true},
		"1 MiB and a byte": {response(strings.Repeat("x", MaxBody-len(response(""))+1)), false},
		"open elements":    {[]byte(strings.Repeat("<a>", 1<<18)), false},
	} {
		if _, err := DecodeResponse(c.doc); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := DecodeResponse(make([]byte, MaxBody+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, _, err := DecodeCall([]byte("<methodCall><methodName>a/b</methodName><params>" +
		strings.Repeat("<param><value/></param>", 100_000/3) + "</params></methodCall>")); err == nil {
		t.Error("tens of thousands of parameters are accepted")
	}
}

func TestWhatIsWrittenIsASCIIAndReadBack(t *testing.T) {
	for _, c := range []struct{ in, want Value }{
		{"", ""},
		{"a <b> & \"c\" 'd' ]]>", "a <b> & \"c\" 'd' ]]>"},
		{"Zoë 日本 😀", "Zoë 日本 😀"},
		{"tab\t line\n return\r", "tab\t line\n return\r"},
		{"\x00\x1b\x7f\xff\ufffe", "\ufffd\ufffd\x7f\ufffd\ufffd"},
		{nil, ""},
		{7, 7},
		{math.MaxInt32 + 1, fmt.Sprint(math.MaxInt32 + 1)},
		{int64(9), "9"},
		{true, true},
		{false, false},
		{1e-7, 1e-7},
		{math.Inf(1), ""},
		{Array{}, Array{}},
		{Array{"a", Array{1}, Struct{{"b", nil}}}, Array{"a", Array{1}, Struct{{"b", ""}}}},
		{Struct{{"<&>", "x"}}, Struct{{"<&>", "x"}}},
	} {
		call, answer := EncodeCall("a/b", c.in), EncodeResponse(c.in)
		for _, doc := range [][]byte{call, answer} {
			for _, b := range doc {
				if b >= 0x80 || b < ' ' && b != '\n' {
					t.Fatalf("byte %#x in %q", b, doc)
				}
			}
		}
		_, params, err := DecodeCall(call)
		if diff := cmp.Diff([]Value{c.want}, params); diff != "" || err != nil {
			t.Errorf("call with %#v: %v\n%s", c.in, err, diff)
		}
		v, err := DecodeResponse(answer)
		if diff := cmp.Diff(c.want, v); diff != "" || err != nil {
			t.Errorf("answer with %#v: %v\n%s", c.in, err, diff)
		}
	}
}

func TestAFaultIsReadBack(t *testing.T) {
	want := &Fault{Code: 7025, String: "-----BEGIN <&> 'é'\n"}
	_, err := DecodeResponse(EncodeFault(want))
	got, ok := errors.AsType[*Fault](err)
	if !ok || *got != *want {
		t.Errorf("%v, want %v", err, want)
	}
}

func TestNumbersAndMapsComeInManyForms(t *testing.T) {
	for _, c := range []struct {
		v    Value
		text string
		n    int
		ok   bool
	}{
		{"42", "42", 42, true}, {42, "42", 42, true}, {true, "1", 1, true}, {false, "0", 0, true}, {4.0, "4", 4, true},
		{4.5, "4.5", 0, false}, {"x", "x", 0, false}, {nil, "", 0, false}, {Array{}, "", 0, false}, {" 7 ", " 7 ", 7, true},
	} {
		if n, ok := Int(c.v); ok != c.ok || ok && n != c.n {
			t.Errorf("Int(%#v) = %d, %t", c.v, n, ok)
		}
		if text := Text(c.v); text != c.text {
			t.Errorf("Text(%#v) = %q", c.v, text)
		}
	}
	for _, c := range []struct {
		v    Value
		want Struct
		ok   bool
	}{
		{Struct{{"a", 1}}, Struct{{"a", 1}}, true}, {Array{}, nil, true}, {Array{1}, nil, false}, {"", nil, false},
	} {
		if got, ok := Map(c.v); ok != c.ok || !cmp.Equal(got, c.want) {
			t.Errorf("Map(%#v) = %#v, %t", c.v, got, ok)
		}
	}
}
