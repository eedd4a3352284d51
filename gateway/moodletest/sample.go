package moodletest

import (
	"time"

	"jumpgate/gateway"
)

// SampleUser is the learner of the demo.
func SampleUser(password string) User {
	return User{Password: password, User: gateway.User{
		Username: "ada", FirstName: "Ada", LastName: "Lovelace", Email: "ada@home.example",
		City: "London", Country: "GB",
	}}
}

// SampleOther is another learner of the demo.
func SampleOther(password string) User {
	return User{Password: password, User: gateway.User{
		Username: "mary", FirstName: "Mary", LastName: "Somerville", Email: "mary@home.example",
		City: "Jedburgh", Country: "GB",
	}}
}

// SampleDeepLink is the path, with its fragment, of the post that SampleMail
// is about.
const SampleDeepLink = "/mod/forum/discuss.php?d=1#p3"

const (
	sampleCourse = "The Analytical Engine"
	sampleTitle  = "Note G: one division in the table of operations"
)

// SampleMail is the notification of the reply by the site of that name, with link as
// its jump link.
func SampleMail(site, link string, now time.Time) Mail {
	return Mail{
		From: "Charles Babbage", Site: site, Course: sampleCourse, Subject: "Re: " + sampleTitle, Link: link,
		Sent:    now.Add(-25 * time.Minute),
		Excerpt: "You have a new reply in “" + sampleTitle + "”.\n\n“You have found it. Operation 4 should divide V4 by V5 …”",
	}
}

// SampleDiscussions are what the demo's forum talks about.
func SampleDiscussions(now time.Time) []Discussion {
	return []Discussion{{
		ID: 1, Course: sampleCourse, Forum: "Questions about the Notes", Title: sampleTitle,
		Posts: []Post{{
			ID: 1, Author: "Ada Lovelace", Subject: sampleTitle, Written: now.Add(-26 * time.Hour),
			Text: `I have worked through the diagram in Note G once more, operation by operation, to see the engine compute the seventh number of Bernoulli from the first, third and fifth.

Up to the third operation V4 holds 2n − 1 and V5 holds 2n + 1. We then want (2n − 1) / (2n + 1), but what I get has the wrong magnitude from there on. Is the fault in my reading or in the table?`,
		}, {
			ID: 2, Author: "Mary Somerville", Subject: "Re: " + sampleTitle, Written: now.Add(-3 * time.Hour),
			Text: `Your reading is right as far as I can follow it. I tried it with n = 1, where the answer is plain: one would expect 1/3 at that place and the table as printed yields 3.

It may help to write down beside each operation what every variable holds before and after it, and not only the one that changes.`,
		}, {
			ID: 3, Author: "Charles Babbage", Subject: "Re: " + sampleTitle, Written: now.Add(-25 * time.Minute),
			Text: `You have found it. Operation 4 should divide V4 by V5, and the table as printed divides V5 by V4. All that follows is sound, so a single exchange puts the whole of it right.

I am told that this may be the first fault anybody has found in a programme for a machine, and it was found before the machine was built. Would you correct the proof, or shall I?`,
		}, {
			ID: 4, Author: "Luigi Menabrea", Subject: "Re: " + sampleTitle, Written: now.Add(-10 * time.Minute),
			Text: `I shall mention it in the next printing. How agreeable that operations 13 to 23 may be repeated without new cards: the engine goes round as often as it must, and the cards are written once.`,
		}},
	}}
}

// SampleCourses are the courses of the demo's forum.
func SampleCourses() []Course {
	return []Course{
		{ID: 2, FullName: sampleCourse, ShortName: "ENGINE", Summary: "How to command a machine that is not built yet.", Category: "Calculation"},
		{ID: 3, FullName: "Numbers of Bernoulli", ShortName: "BERNOULLI", Category: "Calculation"},
		{ID: 4, FullName: "The Difference Engine", ShortName: "DIFFERENCE", Category: "Calculation", Hidden: true},
	}
}
