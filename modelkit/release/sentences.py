"""What a graph is compared on where no data is given: short, long, of several scripts and of none."""

SENTENCES = (
    "Where is my card?",
    "I was charged twice for the same transfer and would like my money back as soon as that can be done.",
    "Alice Smith moved from Oslo to Rio de Janeiro in 2019 to work for Acme Corporation.",
    "hello",
    "?",
    "Können Sie mir bitte helfen? Meine Überweisung an die Müller GmbH fehlt.",
    "東京の銀行でカードが使えません。",
    "The exchange rate that your app showed was 1.0837, but 1.0921 was applied; why?",
    "UN observers in Nairobi, Kampala and Addis Ababa told Reuters that the talks had been postponed.",
    "a " * 100,
    "My phone was stolen in Paris on the way to the airport. Please block everything: the card ending in "
    "4242, the account, and any pending transfers to José Álvarez. I will call again later.",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "👍 thanks!!",
    "nil",
    "How do I change my PIN, my address and my name after the wedding?",
    "Die Bahn fährt heute nicht.",
)
