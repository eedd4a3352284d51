package mail

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// hrefs returns the addresses in HTML as the tokenizer of x/net/html sees them.
func hrefs(text []byte) (all []string) {
	z := html.NewTokenizer(bytes.NewReader(text))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return all
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			skip := string(name) == "base" || string(name) == "link"
			for more {
				var key, value []byte
				key, value, more = z.TagAttr()
				if link := strings.Trim(string(value), " \t\r\n\f"); string(key) == "href" && !skip && link != "" {
					all = append(all, link)
				}
			}
		}
	}
}

// FuzzHTML compares what our walk through HTML finds with what a whole
// tokenizer does.
func FuzzHTML(f *testing.F) {
	for _, text := range []string{
		`<a href="b">`, `<a href='&amp;b' href=c title="a > b">`, "<A\nHREF = \n b/><b", `<!--><a href=b>-->`, `<!---><a href=b>`, `<!--a--!><a href=b>`,
		`<!--!><a href=b>--><a href=c>`, `<!----!><a href=d>`, `<script><a href=b></scripts></SCRIPT ><a href=c>`, `<title/><a href=b></title><a href=c>`, `<plaintext><a href=b>`,
		`<base href=a><link href=b><area href=c>`, `<![CDATA[<a href=b>]]>`, `<?a <a href=b>?>`, `</a href=b><a/href=c><a href=/d>`, `<a b='"' =href=c href="d'e">`,
		`<a href=""x=y><a href>`, `</ <a href=b>><a href=c>`, `<textarea><a href=b></textarea><a href=c>`, `a < b <<a href=b>`, `<a href=e href=b><a href href=c>`, `<a href=&copy;x href="&copy=1&lt">`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		// Mail programs run no scripts, so that noscript is a tag like others there;
		// in a script there may be one within, which is not for us; and what the
		// tokenizer makes of line ends and zero bytes is no affair of links.
		lower := bytes.ToLower(text)
		for _, apart := range []string{"noscript", "<script", "\x00", "\r"} {
			if bytes.Contains(lower, []byte(apart)) {
				t.Skip()
			}
		}
		text = append(text, ">"...) // or the tokenizer would drop the last tag
		var got []string
		finder := &htmlFinder{unicode: true, jump: func(link string) (string, bool) {
			if link != "" {
				got = append(got, link)
			}
			return "x", true
		}}
		for _, c := range text {
			finder.write([]byte{c})
		}
		finder.end()
		if want := hrefs(text); !slices.Equal(got, want) {
			// In an unfinished tag we find a link, and the tokenizer none.
			if !(len(got) > len(want) && slices.Equal(got[:len(want)], want)) {
				t.Errorf("%q\n got %q\nwant %q", text, got, want)
			}
		}
	})
}
